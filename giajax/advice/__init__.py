"""What an audited system could change, and what each change does.

`changes` is the table, `trials` runs the audit again with each of them, and
`comparison`, `costs` and `validation` measure the effects.
"""
