"""How long does it take, against which floor, beside which peers?"""
