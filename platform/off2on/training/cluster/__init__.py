"""Capacity of a cluster for a plan: placement of processes, checks before the start, estimates.

placement.py   processes on nodes        preflight.py   capacity, code, data and simulator on every node
estimate.py    memory, bytes moved, machines and time
"""
