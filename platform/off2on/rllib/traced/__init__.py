"""Traced updates: an update recorded once as a graph of tensor operations, and repeated without the recipe.

A repeated update computes bit for bit what the recipe's own code computes, without the time that Python,
autograd and RLlib take for each operation. The graph can be compiled, or captured on a GPU.
"""
