"""Plants in pictures, by their colour: canopy cover, greenness indices, signs of health, change.

Told in docs/smart_farm.md. All of it rests on OpenCV and NumPy.
"""

import os

# OpenCV reads it when it opens its first picture: a larger one would take more memory than the container has
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "50000000")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # a picture that can't be read is told as a line
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
