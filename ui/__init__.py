"""The Gradio UI: one tab per task with a ready model, with generated forms and outputs."""
