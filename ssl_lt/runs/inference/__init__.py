"""Using a trained network on images: load it, read images, write a table that survives a kill.

Others import `calibrate`, `facts`, `images`, `load`, `model`, `output`, `priors`, `reading`,
`tables`, `writing`.
"""
