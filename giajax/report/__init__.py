"""The report of a run, made only of the files in its workdir."""
