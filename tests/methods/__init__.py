"""The methods and the batches of them, against captum, pytorch-grad-cam, plain autograd and numbers worked by hand."""
