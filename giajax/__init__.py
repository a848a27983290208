"""giajax: what federated-learning updates give away, measured in JAX."""
