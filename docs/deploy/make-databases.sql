-- Beside the database of the catalog, which the image makes: that of tables, the rows.
CREATE DATABASE tables OWNER tiled;
