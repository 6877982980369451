"""Music emotion models to explain: the harmonics CNN, its data, its training, shipped weights."""
