"""A run's policy over HTTP, by Ray Serve; what it did, and what came of it, becomes data to learn on from.

POST /act     {"obs": [...] or [[...], ...], "episode": "car-7"}  →  actions, log_prob, version, ids
POST /reward  {"id": ..., "reward": r, "terminated": false, "truncated": false, "next_obs": [...]}, or a list
GET  /health, GET /version
"""
