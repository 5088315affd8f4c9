"""The phases of ingestion that run the model: generate, fit, embed, and the states kept between them."""
