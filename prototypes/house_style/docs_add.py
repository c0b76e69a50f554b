TOWER = '''

class TowerShape(Document):
    """What a sequence tower is made of."""

    dim: Annotated[int, Field(description="of the item vectors; exported vectors have one more")] = 64
    heads: int = 4
    window: Annotated[int, Field(description="impressions looked back over")] = 100
    content: Annotated[bool, Field(description="whether the weights depend on the items, not on lag and liking alone")] = False
    dropout: float = 0.2


class TowerDocument(Document):
    """What the tower's state dict needs."""

    dataset: str
    items: Annotated[int, Field(description="size of the vocabulary, unknown counted")]
    shape: TowerShape


class RecallComparison(Document):
    """Recall of one set of vectors over the whole catalogue, and its gain over the FM's with the interval."""

    recall_at_50: Annotated[float, Field(alias="recall@50")]
    recall_at_200: Annotated[float, Field(alias="recall@200")]
    gain_at_50: Annotated[float, Field(alias="gain@50")]
    gain_at_50_interval: Annotated[Interval, Field(alias="gain@50_interval")]


class SequenceRecallMetrics(Measured):
    """The tower beside the FM of retrieval: chosen on valid, measured on test."""

    rows: VectorRecallRows
    shape: TowerShape
    epochs: int
    curve: Annotated[list[float], Field(description="Recall@50 on valid after each epoch")]
    valid: RecallComparison
    test: RecallComparison
'''
