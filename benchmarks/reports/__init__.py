"""Reports of stored runs: what they hold (`content`), their figures (`plots`), and the page, Markdown and LaTeX."""
