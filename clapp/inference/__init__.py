"""A trained model applied to pictures, and compared with the filter.

`clapp.inference.picture.filter_picture(runner, image, memory)` is a picture in and a picture out,
arrays both, within a memory budget and from any thread; `clapp.inference.runner.open_runner(path)`
opens the model.
"""
