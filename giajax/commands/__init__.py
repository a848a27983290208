"""The commands of `giajax`: flags, a call, and what is printed.

Each command is a module with a docstring, which is its help, and with

  USAGE  how it is called, in one line: what is written there is required
  FLAGS  the flags that it takes
  run    `(arguments) -> exit code`
"""
