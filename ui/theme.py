"""The theme of the UI in light and dark mode. It uses system fonts, so that the page loads from one host."""

from pathlib import Path

import gradio as gr

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

CSS = (Path(__file__).parent / "page.css").read_text()
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4"
fill="#0f766e"/><path d="M4 5h8M4 8h8M4 11h5" stroke="white" stroke-width="1.6"/></svg>"""
HEAD = f'<meta name="color-scheme" content="light dark"><style>{CSS}</style>'
"""The page's head has the style sheet because gradio's `css=` rewrites it and drops rules (gradio 6.31)."""
TOGGLE_DARK_JS = "() => { document.body.classList.toggle('dark'); }"


def build_theme() -> gr.themes.Base:
    """Build the gradio theme."""
    return gr.themes.Default(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=FONT,
        font_mono=MONO,
    ).set(
        body_text_color_subdued="*neutral_500",  # gradio's default has too little contrast on white
        body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        block_border_width="1px",
        block_shadow="none",
    )
