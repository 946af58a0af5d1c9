"""What the dialects say: their data models, codecs and translations, none of which knows Ray."""
