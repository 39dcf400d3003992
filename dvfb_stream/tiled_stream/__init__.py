"""Raw runs from a Tiled catalog while they are written there: its websocket tells of them, its nodes keep them."""
