// `uplot.js` is the library itself, fetched by build.rs and served with an export of its name.
import uPlot from "uplot";
export default uPlot;
