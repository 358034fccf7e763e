"""Networks for images of about 32 pixels.

Others import `convnet`, `experts`, `network`, `resnet`.
"""
