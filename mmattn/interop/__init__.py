"""Other libraries' models: their weights in our own modules, their attention, ours in their files.

    foreign_captioner.py   a folder of any captioner that can be read
    huggingface/           ViT or DeiT with GPT-2, there and back; BLIP
    open_clip/             CoCa
    onnx/                  a captioner for programs without torch
    timm_vit.py            vision transformers of timm
    foreign_attention.py   attention maps of models that stay as they are

What the readers share: json_settings.py, named_weights.py, projections.py, model_tokenizer.py.
"""
