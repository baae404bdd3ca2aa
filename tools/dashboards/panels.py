"""Panels as EVC wants them: every one with a title, a description and a unit, all of one kind looking the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    geomap,
    heatmap,
    stat,
    statushistory,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    FrameGeometrySourceMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.geomap import TooltipMode
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

from tools.dashboards.dialects import Dialect

GREEN, YELLOW, ORANGE, RED, GREY, BLUE = "green", "yellow", "orange", "red", "#808080", "blue"

MIN_INTERVAL = "30s"  # AIRFLOW__EVC__SWEEP_INTERVAL_S: a shorter step would be a gap at every second point

P = TypeVar(
    "P", bargauge.Panel, geomap.Panel, heatmap.Panel, stat.Panel, statushistory.Panel, table.Panel, timeseries.Panel
)

Built = Builder[Panel]
"""A panel of any kind, ready to be put on a dashboard."""

Steps = Mapping[float, str]
"""From which value on which colour; below the lowest it is green."""

TEMPERATURE: Steps = {70: YELLOW, 80: ORANGE, 85: RED}
USED: Steps = {0.8: YELLOW, 0.9: RED}
BUSY: Steps = {0.8: YELLOW, 0.95: RED}
ANY: Steps = {1: RED}

STATES = {
    "up": GREEN, "down": RED, "unknown": GREY, "pending_cleanup": YELLOW,
    "running": BLUE, "pending": YELLOW, "drifted": ORANGE, "unreachable": RED,
    "succeeded": GREEN, "unchanged": GREEN, "failed": RED, "timeout": RED, "refused": RED, "cancelled": YELLOW,
    "aborted": YELLOW, "expired": ORANGE, "rolled_back": ORANGE, "ended": GREY, "starting": BLUE, "waiting": GREY,
    "preflight": BLUE, "pulling": BLUE, "gate": BLUE,
    "error": RED, "warning": YELLOW, "info": BLUE, "green": GREEN, "discoloured": ORANGE,
}  # fmt: skip
"""What a status or severity looks like, wherever it stands."""


def thresholds(steps: Steps, base: str = GREEN) -> dashboard.ThresholdsConfig:
    """Return colours by value."""
    marks = [
        Threshold(value=None, color=base),
        *(Threshold(value=value, color=color) for value, color in steps.items()),
    ]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(marks)


def states() -> list[ValueMapping]:
    """Return the mapping of states to colours."""
    return [words({state: (state.replace("_", " "), color) for state, color in STATES.items()})]


def words(meanings: Mapping[str, tuple[str, str]]) -> ValueMap:
    """Return a mapping of values to words and their colours."""
    return ValueMap(
        {
            value: ValueMappingResult(text=text, color=color, index=place)
            for place, (value, (text, color)) in enumerate(meanings.items())
        }
    )


NOTHING = SpecialValueMap(
    DashboardSpecialValueMapOptions(SpecialValueMatch.NULL, ValueMappingResult(text="no data", color=GREY, index=0))
)
"""Where nothing is known, that is not good."""


# -- kinds of panels ---------------------------------------------------------------------------------------------------


def lines(
    dialect: Dialect, title: str, description: str, sql: str, unit: str, *, label: str = "", steps: Steps | None = None
) -> timeseries.Panel:
    """Return lines over time; with ``steps`` a dashed line at each.

    :param label: the column that names the series where each is not a column of its own
    """
    legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.TABLE)
    legend = legend.placement(LegendPlacement.BOTTOM).calcs(["mean", "max", "lastNotNull"])
    panel = _asked(timeseries.Panel(), dialect, title, description, unit)
    panel = panel.with_target(dialect.query(sql, "series")).interval(MIN_INTERVAL)
    panel = panel.span(12).height(8).legend(legend).line_width(1).fill_opacity(10)
    panel = panel.span_nulls(False).show_points(VisibilityMode.AUTO)
    panel = panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    if label:
        panel = panel.display_name(f"${{__field.labels.{label}}}")
    if steps is None:
        return panel
    style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(thresholds(steps, "transparent")).thresholds_style(style)


def counts(panel: timeseries.Panel) -> timeseries.Panel:
    """Return what happened in each step as bars; the legend has how often it did in all."""
    legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.TABLE)
    legend = legend.placement(LegendPlacement.BOTTOM).calcs(["sum", "max"])
    panel = panel.min(0).draw_style(GraphDrawStyle.BARS).fill_opacity(60).legend(legend)
    return panel.show_points(VisibilityMode.NEVER)


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    """Return the lines as areas on top of each other."""
    return panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)


def shares(panel: timeseries.Panel) -> timeseries.Panel:
    """Return the lines with an axis from 0 to 1, whatever the values are."""
    return panel.min(0).max(1)


def colored(panel: timeseries.Panel, colors: Mapping[str, str]) -> timeseries.Panel:
    """Return the lines with the colours that their names speak of."""
    for name, color in colors.items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel = panel.override_by_name(name, [DynamicConfigValue(id_val="color", value=fixed)])
    return panel


def mirrored(panel: timeseries.Panel, pattern: str) -> timeseries.Panel:
    """Return the lines with those whose name matches drawn downwards."""
    return panel.override_by_regexp(f"/{pattern}/", [DynamicConfigValue(id_val="custom.transform", value="negative-Y")])


def number(
    dialect: Dialect,
    title: str,
    description: str,
    sql: str,
    unit: str,
    *,
    steps: Steps | None = None,
    base: str = GREEN,
) -> stat.Panel:
    """Return one number, or one for each column of one row."""
    panel = _asked(stat.Panel(), dialect, title, description, unit).with_target(dialect.query(sql, "table"))
    panel = panel.span(4).height(4).graph_mode(BigValueGraphMode.NONE).no_value("no data")
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("/.*/"))
    panel = panel.mappings([NOTHING]).wide_layout(False).color_mode(BigValueColorMode.VALUE)
    return panel.thresholds(thresholds({}, "text") if steps is None else thresholds(steps, base))


def bars(
    dialect: Dialect, title: str, description: str, sql: str, unit: str, *, steps: Steps | None = None
) -> bargauge.Panel:
    """Return a bar for each row: its name, then its value."""
    panel = _asked(bargauge.Panel(), dialect, title, description, unit).with_target(dialect.query(sql, "table"))
    panel = panel.span(12).height(8).orientation(VizOrientation.HORIZONTAL).display_mode(BarGaugeDisplayMode.BASIC)
    panel = panel.reduce_options(common.ReduceDataOptions().values(True).limit(25)).min(0)
    # without any, Grafana takes 80 for red
    return panel.max_viz_height(40).thresholds(thresholds({}, BLUE) if steps is None else thresholds(steps))


def rows(dialect: Dialect, title: str, description: str, sql: str) -> table.Panel:
    """Return a table; columns get their units by :func:`column`.

    Of its own it has none: a unit, "none" too, makes a number of a text such as the version 1.10. What it says where it
    is empty is not said of a cell that is.
    """
    panel = _asked(table.Panel(), dialect, title, description).with_target(dialect.query(sql, "table"))
    panel = panel.span(24).height(9).min_width(60).show_header(True)
    return panel.override_by_regexp("/.*/", [DynamicConfigValue(id_val="noValue", value="")])


def history(
    dialect: Dialect, title: str, description: str, sql: str, unit: str, *, label: str, steps: Steps
) -> statushistory.Panel:
    """Return a coloured cell for each name and step."""
    panel = _asked(statushistory.Panel(), dialect, title, description, unit)
    panel = panel.with_target(dialect.query(sql, "series")).interval(MIN_INTERVAL).max_data_points(120)
    panel = panel.span(24).height(9).display_name(f"${{__field.labels.{label}}}").show_value(VisibilityMode.NEVER)
    panel = panel.legend(
        common.VizLegendOptions()
        .show_legend(False)
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
    )
    panel = panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
    return panel.thresholds(thresholds(steps, RED)).row_height(0.9)


def density(dialect: Dialect, title: str, description: str, sql: str, unit: str) -> heatmap.Panel:
    """Return how many there are in which band, over time: a column for each band, lowest first."""
    panel = _asked(heatmap.Panel(), dialect, title, description, unit)
    panel = panel.with_target(dialect.query(sql, "series")).interval(MIN_INTERVAL).max_data_points(240)
    colors = heatmap_colors()
    rows_options = heatmap.RowsHeatmapOptions().layout(HeatmapCellLayout.UNKNOWN).value("nodes")
    return panel.span(24).height(9).calculate(False).color(colors).rows_frame(rows_options).hide_y_histogram()


def heatmap_colors() -> heatmap.HeatmapColorOptions:
    """Return the colours of a density: none where there is nothing."""
    scheme = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").fill("dark-orange")
    return scheme.steps(64).exponent(0.5).reverse(False)


def node_map(dialect: Dialect, title: str, description: str, sql: str, color_by: str, *, size: int = 7) -> geomap.Panel:
    """Return a map with a point for each row that has ``latitude`` and ``longitude``, coloured by a column."""
    style = {
        "color": {"field": color_by, "fixed": BLUE},
        "size": {"fixed": size, "min": 4, "max": 15},
        "opacity": 0.8,
        "symbol": {"mode": "fixed", "fixed": "img/icons/marker/circle.svg"},
    }
    layer = layer_of("markers", "Nodes", {"showLegend": False, "style": style})  # it would list thresholds, not states
    return earth(dialect, title, description, [layer]).with_target(dialect.query(sql, "table"))


def layer_of(kind: str, name: str, config: dict[str, object]) -> common.MapLayerOptions:
    """Return a layer of a map whose points are the columns ``latitude`` and ``longitude``."""
    place = common.FrameGeometrySource().mode(FrameGeometrySourceMode.COORDS)
    place = place.latitude("latitude").longitude("longitude")
    return common.MapLayerOptions().type(kind).name(name).location(place).tooltip(True).config(config)


def earth(dialect: Dialect, title: str, description: str, layers: list[common.MapLayerOptions]) -> geomap.Panel:
    """Return a map that shows nothing yet."""
    panel = _asked(geomap.Panel(), dialect, title, description).thresholds(thresholds({}, GREY))
    panel = panel.span(12).height(12).layers(list(layers)).mappings(states())
    panel = panel.basemap(common.MapLayerOptions().type("default").name("Map"))
    panel = panel.controls(geomap.ControlsOptions().show_zoom(True).mouse_wheel_zoom(True).show_attribution(True))
    panel = panel.tooltip(geomap.TooltipOptions().mode(TooltipMode.DETAILS))
    return panel.view(geomap.MapViewConfig().id("fit").all_layers(True).padding(10).max_zoom(12))


def _asked(panel: P, dialect: Dialect, title: str, description: str, unit: str = "") -> P:
    panel = panel.title(title).description(description).datasource(dialect.source)
    return panel.unit(unit) if unit else panel


# -- columns of tables -------------------------------------------------------------------------------------------------

C = TypeVar("C", stat.Panel, table.Panel, geomap.Panel)
_WIDTHS = {"dateTimeFromNow": 145, "dateTimeAsIso": 170}
"""Of columns, pixels: so that "a few seconds ago" and the seconds of a time can be read."""
DURATION = "dthms"
"""Unit of what took a while: hours, minutes and seconds. "s" rounds to one of them."""


def column(
    panel: C, name: str, unit: str = "", *, steps: Steps | None = None, link: str = "", colored_states: bool = False,
    width: int = 0, decimals: int | None = None,
) -> C:  # fmt: skip
    """Return the panel with a column's unit, colours and link set."""
    found: dict[str, object] = {}
    width = width or _WIDTHS.get(unit, 0)
    if unit:
        found["unit"] = unit
    if decimals is not None:
        found["decimals"] = decimals
    if steps is not None:
        found["thresholds"] = thresholds(steps).build()
    if colored_states:
        found["mappings"] = states()
    if isinstance(panel, table.Panel):
        if width:
            found["custom.width"] = width
        if steps is not None or colored_states:
            found["custom.cellOptions"] = {"type": "color-text"}
    if link:
        found["links"] = [{"title": "Open", "url": link}]
    return panel.override_by_name(
        name, [DynamicConfigValue(id_val=id_val, value=value) for id_val, value in found.items()]
    )


def widths(panel: table.Panel, given: Mapping[str, int]) -> table.Panel:
    """Return the table with the widths of columns set, pixels."""
    for name, width in given.items():
        panel = panel.override_by_name(name, [DynamicConfigValue(id_val="custom.width", value=width)])
    return panel


def node_link() -> str:
    """Return where a node's name leads to."""
    return "/d/evc-node/?var-node=${__value.raw:percentencode}&${__url_time_range}"
