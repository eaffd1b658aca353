"""Networks of two inputs as their authors would write them, with random weights."""

import torch
from torch import nn

WORDS = ["<pad>", "<start>", "<end>", "a", "red", "blue", "star", "fish", "left", "right", "of", "above"]
ANSWERS = ["yes", "no", "red", "blue"]
LENGTH = 7
SIDE = 32
WIDTH = 16


def features():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())


class Recurrent(nn.Module):
    """An LSTM or GRU that begins with the pooled picture."""

    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.cnn = features()
        self.start = nn.Linear(12, WIDTH)
        self.embedding = nn.Embedding(len(WORDS), WIDTH)
        self.decoder = kind(WIDTH, WIDTH, num_layers=2, batch_first=True)
        self.words = nn.Linear(WIDTH, len(WORDS))

    def forward(self, pixel_values, captions):
        pooled = self.start(self.cnn(pixel_values).mean((2, 3)))
        h = pooled.unsqueeze(0).repeat(2, 1, 1)
        state = (h, torch.zeros_like(h)) if isinstance(self.decoder, nn.LSTM) else h
        out, _ = self.decoder(self.embedding(captions), state)
        return self.words(out)


class Attending(nn.Module):
    """A decoder that takes the words first, and attends to the feature maps at each."""

    def __init__(self):
        super().__init__()
        self.cnn = features()
        self.embedding = nn.Embedding(len(WORDS), 12)
        self.decoder = nn.GRU(12, 12, batch_first=True)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.words = nn.Linear(24, len(WORDS))

    def forward(self, input_ids, x):
        cells = self.cnn(x).flatten(2).transpose(1, 2)
        said, _ = self.decoder(self.embedding(input_ids))
        seen, _ = self.attention(said, cells, cells, need_weights=False)
        return {"logits": self.words(torch.cat([said, seen], 2))}


class Transformer(nn.Module):
    """torch's own decoder with a causal mask."""

    def __init__(self, told=True):
        super().__init__()
        self.told = told
        self.encoder = features()
        self.project = nn.Linear(12, WIDTH)
        self.embedding = nn.Embedding(len(WORDS), WIDTH)
        self.position = nn.Parameter(torch.randn(LENGTH, WIDTH))
        layer = nn.TransformerDecoderLayer(WIDTH, 2, 32, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2)
        self.words = nn.Linear(WIDTH, len(WORDS))

    def forward(self, images, tgt):
        memory = self.project(self.encoder(images).flatten(2).transpose(1, 2))
        mask = nn.Transformer.generate_square_subsequent_mask(tgt.shape[1], device=tgt.device, dtype=images.dtype)
        embedded = self.embedding(tgt) + self.position[: tgt.shape[1]]
        said = self.decoder(embedded, memory, tgt_mask=mask, tgt_is_causal=True if self.told else None)
        return self.words(said)


class Next(nn.Module):
    """A captioner that answers with the logits of the word after the last one alone."""

    def __init__(self, kind=Recurrent):
        super().__init__()
        self.inner = kind()

    def forward(self, image, tokens):
        last = (tokens != 0).sum(1) - 1
        logits = self.inner(image, tokens)
        return logits[torch.arange(logits.shape[0]), last]


class Answerer(nn.Module):
    """A network that answers questions: an LSTM reads them, and what it has read meets the feature maps."""

    def __init__(self):
        super().__init__()
        self.cnn = features()
        self.embedding = nn.Embedding(len(WORDS), WIDTH)
        self.reader = nn.LSTM(WIDTH, 12, batch_first=True)
        self.answers = nn.Sequential(nn.Linear(24, WIDTH), nn.Tanh(), nn.Linear(WIDTH, len(ANSWERS)))

    def forward(self, img, question):
        _, (read, _) = self.reader(self.embedding(question))
        cells = self.cnn(img)
        shares = (cells * read[0][:, :, None, None]).sum(1, keepdim=True).flatten(2).softmax(2)
        seen = (cells.flatten(2) * shares).sum(2)
        return self.answers(torch.cat([seen, read[0]], 1))


def made(kind, seed=3):
    """One in evaluation mode, with weights large enough for words to depend on the picture and on each other."""
    torch.manual_seed(seed)
    module = kind()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.6 if "cnn" not in name and "encoder" not in name else 0.35)
    return module.eval()
