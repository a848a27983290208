"""What training changes step by step: the weights of a network or generator."""
