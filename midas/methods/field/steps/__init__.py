"""How architecture and weights learn in the methods of the field: gradients of several passes, perturbations, what is frozen."""
