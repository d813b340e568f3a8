"""A network as a TFLite file, written from its steps with the schema that LiteRT ships."""
