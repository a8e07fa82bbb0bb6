"""Text in, batches out.

``pairs`` and ``texts`` read and write data folders, ``tokenizer`` turns text into ids and back, ``sequences`` lays a
pair or a text out as one sequence and says which rows a training step sees, ``grammar`` is a built-in corpus of
questions, and ``hub`` asks the model hub.
"""
