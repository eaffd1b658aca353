"""The embedded model `policy`: an agent for MiniGrid's DoorKey that acts on pixels alone."""
