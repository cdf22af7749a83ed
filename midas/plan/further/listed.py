"""All of what stands beside the paper's tables; apart, since what one of them needs no other has to import."""

from midas.plan.further import neighbourhoods, proxies, ranks

FURTHER = (neighbourhoods, proxies, ranks)
