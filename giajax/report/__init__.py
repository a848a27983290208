"""The report of a run, made of the files in its workdir alone."""
