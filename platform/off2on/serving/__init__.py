"""Serve the policy of a run over HTTP with Ray Serve; served episodes become new data for training.

POST /act     {"obs": [...] or [[...], ...], "episode": "car-7"}  →  actions, log_prob, version, ids
POST /reward  {"id": ..., "reward": r, "terminated": false, "truncated": false, "next_obs": [...]}, or a list
GET  /health, GET /version
"""
