"""The verbs of the command line, one file each.

A verb imports what it needs when it runs: `off2on --help` must not wait for torch or Ray.
"""
