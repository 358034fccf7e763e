"""One file a loss: the equation as a function of tensors, unreduced."""
