"""The page: everything that a visitor sees, and the only code that knows Gradio.

serve.py starts it, ui.py puts its regions (regions/) together, wiring.py and api.py connect them
with handlers.py, which does what the events ask for; story.py puts a job into words, stage.py
draws it. executors.py is where jobs run, gate.py stands in front of the server.
"""
