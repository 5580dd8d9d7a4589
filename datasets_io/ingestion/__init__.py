"""Conversion of a source to shards: parts are checked and written in parallel, then published in one step."""
