"""Train several seeds as one batched program.

learners.py       the updates of all seeds
stack.py          networks of equal shapes with stacked parameters
random_draws.py   random numbers and gradients of each network
stackable.py      a check of a recipe's losses
"""
