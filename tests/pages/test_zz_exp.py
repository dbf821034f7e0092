from __future__ import annotations
import time
import pytest
from pages.parts import results, bench
from tests.pages.conftest import Open
from tests.pages.looking import *

def test_exp(open_page: Open, monkeypatch) -> None:
    monkeypatch.setattr(results, "START_BY_ITSELF", 50_000_000)
    t=time.time()
    page = open_page("pages/edit.py", pair="1-0", target="French")
    print("open", time.time()-t)
    assert not page.exception
    for b in page.button: print("B", b.key, b.label, b.disabled)
    for c in charts(page): print(c.title, {k: list(v.columns) for k,v in c.tables.items()})
    print(captions(page))
    t=time.time(); page.run(); print("rerun", time.time()-t)
    for i in page.info: print("I", i.value)
    t=time.time(); page.button[0].click().run(); print("perform", time.time()-t)
    print(captions(page))
    print(html(page))
    for look in ("scatter","table","layers","reach","history","search","pair"):
        t=time.time(); page.segmented_control(key="choose-look").set_value(look).run(); print(look, time.time()-t)
        t=time.time(); page.run(); print(look, time.time()-t)
        assert not page.exception
    t=time.time(); page.slider(key="choose-strength").set_value(0.5).run(); print("strength", time.time()-t)
    print(dict(page.query_params))
    t=time.time()
    page = open_page("pages/edit.py", pair="1-0", target="German")
    print("open", time.time()-t)
    assert 0
