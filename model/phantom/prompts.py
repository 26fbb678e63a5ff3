"""What the pack is taught to understand, and the WordPiece vocabulary for it."""

import re
import unicodedata

# In the order of the generator's bits.
STRUCTURES = {
    "body": ["body", "torso", "trunk", "whole body"],
    "lung": ["lung", "lungs", "both lungs"],
    "left lung": ["left lung", "lung left", "lung on the left", "left lungs"],
    "right lung": ["right lung", "lung right", "lung on the right", "right lungs"],
    "liver": ["liver", "whole liver", "hepatic parenchyma"],
    "spleen": ["spleen", "whole spleen"],
    "kidney": ["kidney", "kidneys", "both kidneys"],
    "left kidney": ["left kidney", "kidney left", "kidney on the left", "left kidneys"],
    "right kidney": ["right kidney", "kidney right", "kidney on the right", "right kidneys"],
    "aorta": ["aorta", "descending aorta", "aortic lumen"],
    "vertebrae": ["vertebrae", "spine", "vertebral column", "vertebra", "vertebral bodies", "spinal column"],
}

# Taught to be nowhere.
ABSENT = [
    "heart", "stomach", "pancreas", "gallbladder", "urinary bladder", "brain", "prostate", "uterus", "esophagus",
    "trachea", "colon", "small bowel", "duodenum", "left femur", "right femur", "left hip", "right hip", "femur",
    "left adrenal gland", "right adrenal gland", "adrenal gland", "inferior vena cava", "portal vein", "thyroid gland",
    "sternum", "left rib", "right rib", "left scapula", "right scapula", "left breast", "right breast", "tumor",
    "liver tumor", "kidney tumor", "kidney cyst", "lung nodule", "left eye", "right eye", "left heart ventricle",
    "right heart ventricle", "left heart atrium", "right heart atrium", "muscle", "spinal cord", "rectum", "pleural effusion",
]

_UNKNOWN, _BEGIN, _END = 104, 105, 106


def vocabulary():
    """Pieces in the order of their ids: boundary tokens where SAT's tokenizer has them, letters, then words."""
    pieces = ["<s>", "<pad>", "</s>"]
    pieces += [f"[unused{i}]" for i in range(len(pieces), _UNKNOWN)]
    pieces += ["[UNK]", "[CLS]", "[SEP]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces += list(letters) + [f"##{letter}" for letter in letters] + list("-,.()/'+&")
    taught = [text for texts in STRUCTURES.values() for text in texts] + ABSENT + ["the"]
    words = sorted({word for text in taught for word in _words(text)} - set(pieces))
    return pieces + words


def _words(text):
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    return re.findall(r"[a-z0-9]+|[^\sa-z0-9]", plain)


class Tokenizer:
    def __init__(self, pieces):
        self.ids = {piece: i for i, piece in enumerate(pieces)}

    def encode(self, text):
        ids = [_BEGIN]
        for word in _words(text):
            ids += self._pieces(word)
        return ids + [_END]

    def _pieces(self, word):
        ids, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in self.ids:
                    ids.append(self.ids[piece])
                    start = end
                    break
            else:
                return [_UNKNOWN]
        return ids
