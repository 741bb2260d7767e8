"""Everything a method is: registered methods, their networks, recipes, training, inference and weights."""
