"""Many seeds as one batched program.

runs.py       a run folder for each seed          stack.py      networks of equal shape as one
learners.py   the updates of all of them          draws.py      what each must do for itself
stackable.py  whether a recipe's losses allow it
"""
