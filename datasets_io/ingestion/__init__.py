"""From a source to shards: parts are written in parallel, checked, and published in one step."""
