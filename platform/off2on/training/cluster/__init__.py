"""A plan meets a cluster: who goes where, and what it takes.

placement.py   processes laid out on nodes        workload.py   what a plan asks for, in numbers
preflight.py   is there room, can all see         costs.py      numbers with bounds, and fits
               what they need                     scaling.py    what each stage costs on more machines
"""
