"""Where the points of a line chart go."""

from services.api.pages.charts import BOTTOM, LEFT, RIGHT, TOP, silhouette_chart


def rows(*values):
    return [{"n_clusters": k, "inertia": 1.0, "silhouette": silhouette} for k, silhouette in values]


def test_the_curve_fills_the_drawing_from_the_lowest_to_the_highest_silhouette():
    chart = silhouette_chart(rows((2, 0.1), (4, 0.3), (8, 0.2)))
    assert [(point.x, point.y) for point in chart.points] == [
        (LEFT, BOTTOM),
        ((LEFT + RIGHT) / 2, TOP),
        (RIGHT, (TOP + BOTTOM) / 2),
    ]


def test_labels_do_not_run_into_each_other():
    chart = silhouette_chart(rows(*((k, 0.1 * k) for k in (2, 50, 51, 52, 100))))
    assert [label for _, label in chart.x_ticks] == ["2", "50", "100"]


def test_numbers_without_a_silhouette_are_left_out_and_one_point_is_no_curve():
    assert silhouette_chart(rows((2, None), (3, 0.5))) is None
    assert silhouette_chart([]) is None


def test_equal_silhouettes_make_a_flat_curve():
    chart = silhouette_chart(rows((2, 0.5), (3, 0.5)))
    assert {point.y for point in chart.points} == {BOTTOM}
