"""The embedded model `scenes-captions`: sentences about drawn scenes, whose words can be checked against masks."""
