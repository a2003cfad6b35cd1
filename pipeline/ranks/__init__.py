"""The processes that use the devices, one per rank. The stage ``dit`` or ``text_encoder`` starts
and monitors them, and uses no device itself.
"""
