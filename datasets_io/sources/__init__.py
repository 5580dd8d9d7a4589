"""Where rows come from: one file for each origin, and the catalogue of their names."""
