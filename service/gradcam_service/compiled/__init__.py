"""Models as compiled graphs: what `gradcam compile` writes, and what answers from it without torch."""
