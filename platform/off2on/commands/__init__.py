"""The commands of the command line, one file each.

A command imports what it needs when it runs: `off2on --help` must not wait for torch or Ray.
"""
