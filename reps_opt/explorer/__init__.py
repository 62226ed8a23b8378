"""A page in the browser that asks "what if" of a small MDP: questions, figures, page."""
