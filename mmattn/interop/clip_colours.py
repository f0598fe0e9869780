"""Mean and standard deviation of the colours of CLIP's training pictures, in [0, 1]."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
