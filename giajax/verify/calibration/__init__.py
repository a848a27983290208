"""How the thresholds of the checks were set, and what the checks detect.

A layer above the engine, which nothing else imports: `thresholds` and
`detection` are commands, the other modules their parts.
"""
