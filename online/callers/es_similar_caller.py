"""Elasticsearch: the neighbours that the index of items stores beside each item."""

from data_exchange_center.serving_names import ES_ALIAS, ES_INDEX_OF_LOAD, ES_SIMILAR
from data_exchange_center.settings import Settings
from online.callers.es_caller import FAULTS, elasticsearch_client
from online.callers.types import ServiceUnavailable, SimilarItem, StoreFault


class SimilarItemsCaller:
    """Reads items by their ids from what offline_to_online/recall/s2_item_to_es.py wrote."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        """`timeout` is in seconds."""
        self._client = elasticsearch_client(settings, timeout)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def similar(self, itemid: int, load: str, index: str = ES_ALIAS) -> tuple[SimilarItem, ...]:
        """The neighbours of an item, best first; none of an item that nobody has rated.

        Args:
            itemid: of the catalogue.
            load: the digest of the load that the index must be of.
            index: an index, or the alias of the served one.

        Raises:
            ServiceUnavailable: Elasticsearch does not respond in time, or responds with an error.
            StoreFault: the index is of another load, or lacks the item.
        """
        try:
            # A node of a cluster that has a copy of the index reads it itself, rather than ask another.
            found = self._client.options(ignore_status=404).get(
                index=index, id=str(itemid), source_includes=[ES_SIMILAR], realtime=False, preference="_local"
            )
            if "error" in found:
                raise ServiceUnavailable("elasticsearch", found["error"])
            if not found["_index"].startswith(ES_INDEX_OF_LOAD.format(load)) or not found["found"]:
                raise StoreFault(
                    "elasticsearch", f"it holds no item {itemid} of the load {load} behind {index}: run `make load`"
                )
            similar = found["_source"][ES_SIMILAR]
            return tuple(map(SimilarItem, map(int, similar["itemids"]), map(float, similar["scores"])))
        except FAULTS as error:
            raise ServiceUnavailable("elasticsearch", error) from error
